"""The three networks written by hand, on one framework each, as a good user of that framework would write them.

Every module offers ``PROGRAMS`` (name -> class), and nothing of LayerHub is in any of them:

    Program(trained, moving)   from first weights in Keras's order and layouts, as ndarrays
    .tensor(array)             a native tensor
    .predict(x)                logits
    .train(x, y)               one step of Adam; the loss before it
    .array(tensor)             an ndarray; this waits for it
    .momentum()                Adam's first moments, in Keras's order and layouts
"""
