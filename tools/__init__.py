"""Commands of the project's own house: size budgets, generated reference pages, the demonstration."""
