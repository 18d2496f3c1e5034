"""What a reconstruction is judged by: one function per loss, per image.

Each takes `decoded` and `target`, (B, C, *spatial) in [-1, 1], and `weight`, (B, 1, *spatial) of mean 1 per image or
None, and returns (B,) in their type; its keyword-only arguments can be set in an expression. A pixel of weight 0 has
no influence on any of them.
"""
