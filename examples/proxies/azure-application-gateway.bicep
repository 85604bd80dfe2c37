// Azure Application Gateway v2 with mutual authentication, in front of an app with
// { proxy: { trust: '10.0.3.0/24', certificate: {
//   header: 'x-client-cert', encoding: 'url-pem', verified: { header: 'x-client-cert-verification', value: 'SUCCESS' } } } }.
//
// Written by Microsoft's documentation, which the tests do not run: Azure Application Gateway, "Overview of mutual
// authentication" and "Rewrite HTTP headers and URL" (mutual authentication server variables).
//
// Yours to change: partnersCa, and trust: the subnet of the gateway. These are values for the properties of the resource
// Microsoft.Network/applicationGateways. In the portal: SSL settings, SSL profiles, "Client Authentication"; and Rewrites.

@description('partners-ca.pem in base64: all roots and intermediates in one file')
param partnersCa string
param gatewayName string

var trustedClientCertificates = [
  {
    name: 'partners'
    properties: { data: partnersCa }
  }
]

// For the HTTPS listener (sslProfile). In mode Strict, a client without a valid certificate is refused with 400: this
// listener is for mtls routes alone. For an app that has others as well: Passthrough, without trustedClientCertificates.
// Then every client gets in, and nobody has verified its certificate, whatever client_certificate_verification says. The
// app does: { header: 'x-client-cert', encoding: 'url-pem', verified: 'here' }, with ca and crl.
var sslProfiles = [
  {
    name: 'partners'
    properties: {
      trustedClientCertificates: [
        { id: resourceId('Microsoft.Network/applicationGateways/trustedClientCertificates', gatewayName, 'partners') }
      ]
      clientAuthConfiguration: {
        verifyClientAuthMode: 'Strict'
        // The certificate has to be of the issuing CA, not only of a root that others share.
        verifyClientCertIssuerDN: true
        verifyClientRevocation: 'OCSP'
      }
    }
  }
]

// ---- What the app is told of a client, and nothing of what it says itself ----
//
// TRAP: this set belongs to every routing rule that leads to the app, that of port 80 as well. Where a rule has none, what
// clients write arrives. A variable that is empty removes the header.
var rewriteRuleSets = [
  {
    name: 'told-to-the-app'
    properties: {
      rewriteRules: [
        {
          name: 'told-to-the-app'
          ruleSequence: 100
          conditions: []
          actionSet: {
            requestHeaderConfigurations: [
              { headerName: 'X-Client-Cert', headerValue: '{var_client_certificate}' }
              { headerName: 'X-Client-Cert-Verification', headerValue: '{var_client_certificate_verification}' }
              { headerName: 'X-Forwarded-Proto', headerValue: '{var_request_scheme}' }
              { headerName: 'Forwarded', headerValue: '' }
              { headerName: 'Early-Data', headerValue: '' }
            ]
            responseHeaderConfigurations: []
          }
        }
      ]
    }
  }
]

// ---- What only the network can guarantee ----
//
// Whoever can connect to the app from the gateway's subnet can be anybody. So nothing else is in that subnet, and the app's
// network security group, private endpoint, or access restriction takes connections from it alone.

output trustedClientCertificates array = trustedClientCertificates
output sslProfiles array = sslProfiles
output rewriteRuleSets array = rewriteRuleSets
