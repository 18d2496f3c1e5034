"""What is measured once per decoder and kept on disk: its curvature, and a low-rank approximate backward pass."""
