# Google Cloud, global external Application Load Balancer with frontend mTLS, in front of an app with
# { proxy: { trust: ['130.211.0.0/22', '35.191.0.0/16'], certificate: 'gcp' } }.
#
# Written by Google's documentation, which the tests do not run: Cloud Load Balancing, "Set up frontend mTLS with
# user-provided certificates", "mTLS custom headers", "Create custom headers in backend services".
#
# Yours to change: the names in capitals. A regional load balancer comes from its proxy-only subnet (trust), and has its
# headers in the URL map: requestHeadersToAdd with replace: true. In the console: Certificate Manager, Trust Configs;
# Network Security, Authentication Configuration, Client Authentication; Load balancing, Frontend, Client Authentication.

# Who issues client certificates: PEM, in one line each, with \n.
cat > trust-config.yaml << 'YAML'
name: partners
trustStores:
  - trustAnchors:
      - pemCertificate: "PARTNERS_CA_IN_ONE_LINE"
YAML
gcloud certificate-manager trust-configs import partners --source=trust-config.yaml --location=global

# With REJECT_INVALID only clients with a valid certificate get in: this frontend is for mtls routes alone. For an app that
# has others as well, use ALLOW_INVALID_OR_MISSING_CLIENT_CERT: then the verdict has to be read, too:
# { header: 'client-cert', encoding: 'rfc9440', verified: { header: 'x-client-cert-chain-verified', value: 'true' } }.
cat > server-tls-policy.yaml << 'YAML'
name: partners
mtlsPolicy:
  clientValidationMode: REJECT_INVALID
  clientValidationTrustConfig: projects/PROJECT/locations/global/trustConfigs/partners
YAML
gcloud network-security server-tls-policies import partners --source=server-tls-policy.yaml --location=global
gcloud compute target-https-proxies export TARGET_PROXY --destination=target-proxy.yaml --global
echo 'serverTlsPolicy: //networksecurity.googleapis.com/projects/PROJECT/locations/global/serverTlsPolicies/partners' >> target-proxy.yaml
gcloud compute target-https-proxies import TARGET_PROXY --source=target-proxy.yaml --global

# ---- What the app is told of a client, and nothing of what it says itself ----
#
# Headers that are set here replace those of clients. X-Forwarded-Proto is the load balancer's own. Google reads no revocation
# lists. The app does with { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca and crl.
#
# Health checks come over plain HTTP, without X-Forwarded-Proto: give their path { level: 'none', kind: 'rest' }.
#
# TRAP: every backend service that leads to the app needs this, that of the frontend on port 80 as well.
gcloud compute backend-services update BACKEND_SERVICE --global \
  --custom-request-header='Client-Cert:{client_cert_leaf}' \
  --custom-request-header='X-Client-Cert-Chain-Verified:{client_cert_chain_verified}'

# ---- What only the network can guarantee ----
#
# Whoever can connect to the app from these ranges can be anybody. They are Google's: a firewall rule lets nothing else in,
# and the machine has no external address.
gcloud compute firewall-rules create load-balancer-to-app --network=NETWORK --direction=INGRESS --action=ALLOW \
  --rules=tcp:3000 --source-ranges=130.211.0.0/22,35.191.0.0/16 --target-tags=app
