"""Credit in time: what every policy is, and credit that is carried forward."""
