"""The YOWO network and its backbones."""
