# Azure App Service, for an app with
# { proxy: { trust: 'linklocal', protocol: 'azure', certificate: 'azure', ca: 'partners-ca.pem', crl: 'partners-crl.pem' } }.
#
# Written by Microsoft's documentation, which the tests do not run: Azure App Service, "Set up TLS mutual authentication"
# (learn.microsoft.com/azure/app-service/app-service-web-configure-tls-mutual-auth).
#
# Yours to change: the names in capitals. On Linux, the front end was seen to come from 169.254.130.1, which 'linklocal'
# has; the log of the app names the peer whose headers it ignores.

# In the portal: your app, Settings, Configuration, General settings, Incoming client certificates, "Client certificate
# mode": "Optional" (Allow, where the portal says that). With "Optional Interactive User" or with exclusion paths, TLS is
# renegotiated: no HTTP/2, no TLS 1.3, and no more than 100 kB in a request.
az webapp update --resource-group GROUP --name APP --set clientCertEnabled=true clientCertMode=Optional

# Plain HTTP goes to the app as well, which redirects pages and refuses APIs. "HTTPS Only" does as well.
az webapp update --resource-group GROUP --name APP --https-only false

# ---- What removes what clients write ----
#
# The front end writes X-ARR-SSL for what came over TLS (certificate: 'azure' reads X-ARR-ClientCert). It verifies no
# certificate: the app does, by ca and crl. X-Forwarded-Proto was seen to be passed on as the client wrote it: do not
# use it here.
#
# TRAP: with mode "Ignore" nothing says that X-ARR-ClientCert of a client is removed. Leave out proxy.certificate then.

# ---- What only the network can guarantee ----
#
# Nobody but the front end reaches the app's port, as App Service has it. Where Application Gateway or Front Door comes
# first, the front end says how that one came, not the client: see azure-application-gateway.bicep, azure-front-door.sh.
