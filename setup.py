"""The C extension is declared here because pyproject.toml has no place for cffi modules; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["native/build_ffi.py:ffibuilder"])
