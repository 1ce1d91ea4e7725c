"""The pages that commands write: one template each, in one look."""
