# Amazon CloudFront in front of an app with
# { proxy: { trust: ['10.0.1.0/24', '10.0.2.0/24'], protocol: 'cloudfront' } },
# and with viewer mTLS, if clients have certificates:
# { certificate: { header: 'cloudfront-viewer-cert-pem', encoding: 'url-pem', verified: 'presence' } }.
#
# Written by AWS's documentation, which the tests do not run: Amazon CloudFront, "Add CloudFront request headers", "Viewer
# mTLS headers for cache policies and forwarded to origin", "Restrict access with VPC origins".
#
# Yours to change: the names in capitals, and trust: the subnets that CloudFront comes from, with a VPC origin those of its
# network interfaces; with a load balancer in between, those of the load balancer.

# CloudFront tells only what a policy names. In the console: Policies, Origin request, "Create origin request policy",
# Headers: "All viewer headers and the following CloudFront headers". X-Forwarded-Proto is not among them: CloudFront
# removes it, and a load balancer behind writes there how CloudFront came.
aws cloudfront create-origin-request-policy --origin-request-policy-config '{
  "Name": "how-viewers-came",
  "HeadersConfig": {
    "HeaderBehavior": "allViewerAndWhitelistCloudFront",
    "Headers": {
      "Quantity": 3,
      "Items": ["CloudFront-Forwarded-Proto", "CloudFront-Viewer-Cert-Present", "CloudFront-Viewer-Cert-Pem"]
    }
  },
  "CookiesConfig": { "CookieBehavior": "all" },
  "QueryStringsConfig": { "QueryStringBehavior": "all" }
}'

# Then, at the behavior of the distribution: this policy; the cache policy CachingDisabled for what is of one client; and the
# viewer protocol policy "HTTP and HTTPS", so that the app redirects, or "Redirect HTTP to HTTPS".
#
# Client certificates: Settings, "Viewer mutual authentication (mTLS)", with a trust store of partners-ca.pem. Mode
# "Optional" lets clients without a certificate in, and refuses invalid ones, as "Required" does. With "Passthrough" nobody
# verifies them: { verified: 'here' } instead of 'presence', with ca and crl. CloudFront reads no revocation lists by itself.
# If the log says that the header is not exactly a certificate in url-pem, it is 'url-pem-aws'.

# ---- What removes what clients write ----
#
# CloudFront writes its own headers over those of viewers where the policy names them. A distribution or a behavior without
# this policy passes on what viewers write: each one that leads to the app needs it.

# ---- What only the network can guarantee ----
#
# TRAP: the addresses of CloudFront are those of all its customers. A security group with the prefix list
# com.amazonaws.global.cloudfront.origin-facing lets any other distribution in, and its owner can write every one of these
# headers. So the app, or the load balancer in front of it, is a VPC origin, which only your distributions can reach.
aws cloudfront create-vpc-origin --vpc-origin-endpoint-config '{
  "Name": "app",
  "Arn": "LOAD_BALANCER_ARN",
  "HTTPPort": 80,
  "HTTPSPort": 443,
  "OriginProtocolPolicy": "https-only"
}'
