"""The control plane for the websites that a council gives to its associations."""
