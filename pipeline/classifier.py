def load_classifier():
    class C:
        def read(self, x):
            return x[:, 0, 0, 0]

    return C()
