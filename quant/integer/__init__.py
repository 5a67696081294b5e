"""LayerNorm and softmax in integer arithmetic (FQ-ViT, Lin et al. 2022), simulated bit for bit."""
