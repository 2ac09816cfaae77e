"""Frame-Action Cross-Attention Temporal Modeling (FACT): tensors in, tensors out."""
