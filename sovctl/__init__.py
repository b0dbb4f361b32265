"""The SDK and command line of tenants and operators; imports neither ray nor sqlalchemy."""
