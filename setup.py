"""Only what pyproject.toml cannot say: ``recipes/`` at the top is the package ``deploykit.recipes``."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["deploykit", "deploykit.*"], exclude=["*.__pycache__"]),
        "deploykit.recipes",
    ],
    package_dir={"deploykit.recipes": "recipes"},
)
