"""`.tflite`: files for LiteRT and TensorFlow Lite Micro."""
