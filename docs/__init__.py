"""The pages that come with deploykit: ``docs/`` of the repository, ``deploykit.docs`` of the installed package."""
