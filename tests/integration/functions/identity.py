"""Says who invoked it, as the real runtime client understood it."""


def handler(event, context):
    identity = context.identity
    return {"identity": identity and identity.cognito_identity_id, "tenant": getattr(context, "tenant_id", None)}
