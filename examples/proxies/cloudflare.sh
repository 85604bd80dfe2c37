# Cloudflare in front of an app with
# { proxy: { trust: { client: 'cloudflare', from: ['173.245.48.0/20', '103.21.244.0/22'] }, certificate: 'rfc9440' } }.
#
# Written by Cloudflare's documentation, which the tests do not run: SSL/TLS, "Forward certificate to server", "Client
# certificates (mTLS)", "Authenticated Origin Pulls", zone-level; "Cloudflare HTTP headers".
#
# Yours to change: the names in capitals, and from: all ranges of www.cloudflare.com/ips. CLOUDFLARE_API_TOKEN may edit
# the zone's transform rules, SSL and certificates.

zone=https://api.cloudflare.com/client/v4/zones/ZONE_ID

# The app listens on all addresses, with TLS (enableTls with clientCertificates: { ca } of the CA that cloudflare.pem is from),
# has redirect: { hosts: ['shop.example'] }, and a client cloudflare in its clients document.

# ---- Who issues client certificates ----
#
# In the dashboard: SSL/TLS, Client Certificates: create them, or bring your own CA (API Shield), and add shop.example to
# Hosts. Cloudflare then asks for a certificate there, lets clients without one in, and verifies those that come.

# ---- What the app is told of a client, and nothing of what it says itself ----
#
# In the dashboard: Rules, Transform Rules, Modify Request Header, in this order. Client-Cert comes only for a certificate
# that is verified and not revoked; the fields have unverified ones, too. X-Forwarded-Proto is Cloudflare's own.
#
# TRAP: this replaces the transform rules for requests that the zone has.
curl --fail --request PUT "$zone/rulesets/phases/http_request_late_transform/entrypoint" \
  --header "Authorization: Bearer $CLOUDFLARE_API_TOKEN" --json '{
  "rules": [
    {
      "description": "nothing of what clients say of certificates",
      "expression": "true",
      "action": "rewrite",
      "action_parameters": {
        "headers": {
          "Client-Cert": { "operation": "remove" },
          "Client-Cert-Chain": { "operation": "remove" },
          "Forwarded": { "operation": "remove" },
          "X-Forwarded-Host": { "operation": "remove" }
        }
      }
    },
    {
      "description": "the certificate, if it is valid",
      "expression": "cf.tls_client_auth.cert_verified and not cf.tls_client_auth.cert_revoked and not cf.tls_client_auth.cert_rfc9440_too_large",
      "action": "rewrite",
      "action_parameters": {
        "headers": { "Client-Cert": { "operation": "set", "expression": "cf.tls_client_auth.cert_rfc9440" } }
      }
    }
  ]
}'

# The preset 'cloudflare' reads Cf-Client-Cert-Der-Base64 instead (client_certificate_forwarding, which needs Cloudflare
# Access). Cloudflare sends that for the first request of a connection only, or for every one, depending on the page that one
# reads, and for certificates that are not valid: the app verifies them.

# ---- What only the network can guarantee ----
#
# TRAP: Cloudflare's addresses are those of all its customers, and so is the certificate of "Global" Authenticated Origin
# Pulls: anyone's zone could be pointed at your app, with other rules. A certificate of your own is what tells yours.
jq --null-input --rawfile cert cloudflare.pem --rawfile key cloudflare.key '{ certificate: $cert, private_key: $key }' |
  curl --fail --request POST "$zone/origin_tls_client_auth" --header "Authorization: Bearer $CLOUDFLARE_API_TOKEN" --json @-
curl --fail --request PUT "$zone/origin_tls_client_auth/settings" \
  --header "Authorization: Bearer $CLOUDFLARE_API_TOKEN" --json '{ "enabled": true }'

# The app ends TLS itself (enableTls), with the CA of cloudflare.pem in clientCertificates, and knows that certificate as the
# client cloudflare, by its fingerprint256 in the clients document. SSL/TLS, Overview, encryption mode: "Full (strict)".
# "Always Use HTTPS" may be on or off: the app redirects.
