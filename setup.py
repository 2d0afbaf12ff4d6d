"""The C extension is declared here because pyproject.toml has no place for cffi modules; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["native/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # cffi keeps to the stable ABI: one wheel for 3.11 and later
)
