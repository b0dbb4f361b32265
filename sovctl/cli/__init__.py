"""The command line: verbs over the SDK, tables for people, documents for programs."""
