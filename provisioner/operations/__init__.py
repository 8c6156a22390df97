"""Operations: recipes over steps, one per file; each reads top to bottom on one screen."""
