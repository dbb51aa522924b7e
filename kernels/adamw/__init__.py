"""One step of AdamW: moments in 8 bits by blocks, weights in bfloat16 rounded stochastically, or float32."""
