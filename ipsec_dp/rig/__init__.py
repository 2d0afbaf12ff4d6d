"""Test rigs: what builds peers, wires and hosts, for the tests of this project and of others."""
