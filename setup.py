"""Only what pyproject.toml cannot say: ``recipes/`` and ``docs/`` at the top are packages inside ``deploykit``."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["deploykit", "deploykit.*"], exclude=["*.__pycache__"]),
        "deploykit.recipes",
        "deploykit.docs",
    ],
    package_dir={"deploykit.recipes": "recipes", "deploykit.docs": "docs"},
)
