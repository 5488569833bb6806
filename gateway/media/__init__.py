"""Files of a request: step 1 of the data's path.

files    images and videos of a request, under ids bound to their tenant
fetcher  files from addresses
hosts    addresses that files may be fetched from
"""
