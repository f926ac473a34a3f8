"""Store weights in a dtype: rounding, quantisation, calibration."""
