"""Tenants: who asks, and how much of everything a tenant may have.

tenants    API key to tenant, from a file that reloads
key_file   the file of keys and limits
rates      requests and tokens a minute
admission  requests and bytes in flight
"""
