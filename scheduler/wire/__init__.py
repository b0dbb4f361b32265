"""Joins the wire (protobuf) and the domain (dataclasses): the only converters between them.

Every `*_to_proto` has its `*_from_proto`; neither may drop a field, which a test proves by filling
every field of each message and going there and back. Checks of meaning are not made here: a value
outside an enum becomes UNSPECIFIED, which everything downstream refuses.
"""
