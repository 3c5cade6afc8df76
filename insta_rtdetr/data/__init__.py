"""STEP 1 of the data flow: dataset dict -> {"image" (3, H, W), "instances"}."""
