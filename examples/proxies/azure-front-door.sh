# Azure Front Door (Standard or Premium) in front of an app with
# { proxy: { trust: ['147.243.0.0/16'], host: 'x-forwarded-host' }, redirect: { hosts: ['shop.example'] } }.
#
# Written by Microsoft's documentation, which the tests do not run: Azure Front Door, "Protocol support for HTTP headers" and
# "Secure traffic to Azure Front Door origins". There is nothing there of client certificates: the app cannot have any.
#
# Yours to change: the names in capitals, and trust: the ranges of the service tag AzureFrontDoor.Backend that the app sees.
# With Premium and Private Link, it is the private endpoint's subnet.

# In the portal: your endpoint, the route, "Accepted protocols": "HTTP and HTTPS", without "Redirect all traffic to use
# HTTPS", since the app redirects; "Forwarding protocol": "HTTPS only". The host that clients ask for comes in
# X-Forwarded-Host.
az afd route update --resource-group GROUP --profile-name PROFILE --endpoint-name ENDPOINT --route-name ROUTE \
  --supported-protocols Http Https --https-redirect Disabled --forwarding-protocol HttpsOnly

# TRAP: an app in App Service behind Front Door is told by X-ARR-SSL how Front Door came, and takes every client for secure
# ({ protocol: 'azure' }). There, Front Door has to redirect: --https-redirect Enabled.

# ---- What removes what clients write ----
#
# Front Door overrides X-Forwarded-Proto and X-Forwarded-Host. All other headers of clients arrive: leave out
# proxy.certificate.

# ---- What only the network can guarantee ----
#
# TRAP: these ranges are those of all customers of Front Door, and anyone's Front Door can send anything. So the origin is
# reached by Private Link; or something in front of the app looks at X-Azure-FDID, as App Service does:
az webapp config access-restriction add --resource-group GROUP --name APP --rule-name frontdoor --priority 100 \
  --action Allow --service-tag AzureFrontDoor.Backend --http-header x-azure-fdid=FRONT_DOOR_ID
