"""State that can be carried to another process: one versioned model of all IKE SAs, exported and imported whole."""
