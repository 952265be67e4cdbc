"""Recipes: the DCU's image and the containers."""
