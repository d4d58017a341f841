"""Importing this module is the whole set-up: `import costspan.auto`."""

from costspan.install import install

install()
