# AWS Application Load Balancer with mutual authentication, in front of an app with
# { proxy: { trust: ['10.0.1.0/24', '10.0.2.0/24'], certificate: 'aws-alb' } }.
#
# Written by AWS's documentation, which the tests do not run: Elastic Load Balancing, "Mutual authentication with TLS in
# Application Load Balancer" and "HTTP headers and Application Load Balancers".
#
# Yours to change: the names in capitals, and trust: the subnets of the load balancer, which has several addresses that
# change. In the console: EC2, Trust Stores; then Load Balancers, your listener HTTPS:443, Security, "Client certificate
# handling": "Mutual authentication (mTLS)", "Verify with trust store".

# Who issues client certificates, and which of those were revoked: files in an S3 bucket.
aws elbv2 create-trust-store --name partners \
  --ca-certificates-bundle-s3-bucket BUCKET --ca-certificates-bundle-s3-key partners-ca.pem
aws elbv2 add-trust-store-revocations --trust-store-arn TRUST_STORE_ARN \
  --revocation-contents S3Bucket=BUCKET,S3Key=partners-crl.pem,RevocationType=CRL

# The load balancer verifies, and sends X-Amzn-Mtls-Clientcert-Leaf. A client without a certificate does not get a
# connection, so this listener is for mtls routes alone. For an app that has others as well, use Mode=passthrough without a
# trust store: then every client gets in, no certificate is verified by the load balancer, and the app does it:
# { certificate: 'aws-alb-passthrough', ca: 'partners-ca.pem', crl: 'partners-crl.pem' }.
aws elbv2 modify-listener --listener-arn LISTENER_ARN \
  --mutual-authentication Mode=verify,TrustStoreArn=TRUST_STORE_ARN,IgnoreClientCertificateExpiry=false

# Removes names with underscores, which other programs may take for those above.
aws elbv2 modify-load-balancer-attributes --load-balancer-arn LOAD_BALANCER_ARN \
  --attributes Key=routing.http.drop_invalid_header_fields.enabled,Value=true

# ---- What removes what clients write ----
#
# The load balancer writes X-Forwarded-Proto itself on every listener. A listener on port 80 that forwards to the same
# target group is fine: over plain HTTP, the app looks at no certificate.
#
# TRAP: AWS does not say that an HTTPS listener without mutual authentication removes X-Amzn-Mtls-… of clients. So every
# HTTPS listener that leads to this app needs it; or another target group, with an app that has no proxy.certificate.

# ---- What only the network can guarantee ----
#
# Whoever can connect to the app from these subnets can be anybody. So its security group takes connections from that of the
# load balancer alone, and nothing else is in these subnets.
aws ec2 authorize-security-group-ingress --group-id APP_SECURITY_GROUP \
  --protocol tcp --port 3000 --source-group LOAD_BALANCER_SECURITY_GROUP
