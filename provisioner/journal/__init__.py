"""Operations as journaled steps: run, resume, undo; locks; failpoints."""
