"""Where SAs come from: the IKE driver, manual keys, and who installs them."""
