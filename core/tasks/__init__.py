"""Where tasks come from: files and generators. Every source yields Tasks with what their verifier needs."""
