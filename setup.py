"""The C extension and the command, a shell script, are declared here because pyproject.toml has no good place for them; everything
else is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["native/build_ffi.py:ffibuilder"],
    scripts=["tools/ipsec-dp"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # cffi keeps to the stable ABI: one wheel for 3.11 and later
)
