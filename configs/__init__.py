"""Run configs that are not transfers; installed as pgjax.configs."""
