"""Helpers of the tests: nets and files to make, real Caffe, commands to run, formulas."""
