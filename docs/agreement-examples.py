"""Make docs/agreements/*.pdf anew: the documents of the demonstration's two associations (`make examples`).

On records alone, in a folder of their own: neither an engine nor the demonstration's state is needed.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from provisioner import records
from provisioner.associations import from_file
from provisioner.installation import Installation
from provisioner.operations import document

CHECKOUT = Path(__file__).parent.parent
EXAMPLES = CHECKOUT / "docs" / "agreements"


def main() -> None:
    """Write the documents."""
    with TemporaryDirectory() as name:
        inventory = Path(shutil.copy(CHECKOUT / "inventory.yaml", name))
        installation = Installation.described(inventory)
        installation.store.upgrade()
        for described in sorted((CHECKOUT / "conventions" / "associations").glob("*.yaml")):
            (spec,) = from_file(described)
            with installation.store.transaction() as session:
                records.record_association(session, installation.inventory, spec)
            made = document.make(installation, spec.slug, None)
            shutil.copy(made.file, EXAMPLES / f"{spec.slug}.pdf")
            sys.stdout.write(f"docs/agreements/{spec.slug}.pdf written\n")


if __name__ == "__main__":
    main()
