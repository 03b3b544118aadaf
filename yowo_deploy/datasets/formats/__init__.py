"""Files of annotation tools, one module a format: read into `Annotations`, and written where the tool reads them."""
