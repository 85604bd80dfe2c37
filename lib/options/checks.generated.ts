// Made from lib/options/schema.ts by `npm run schemas`. Do not edit.
// @ts-nocheck: code without types, as the compiler of TypeBox writes it

/** The JSON Schema, to explain what is wrong with a value. */
export const DeclarationSchema = {
  "anyOf": [
    {
      "enum": [
        "none",
        "tls",
        "mtls"
      ]
    },
    {
      "type": "object",
      "properties": {
        "level": {
          "enum": [
            "none",
            "tls",
            "mtls"
          ]
        },
        "kind": {
          "enum": [
            "screen",
            "rest",
            "soap"
          ]
        }
      },
      "additionalProperties": false
    }
  ]
}

/** Whether a value fits it. */
export const isDeclaration = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const External = [/(^level$|^kind$)/u]; const check_0 = ((value) => (((value === "none" || value === "tls") || value === "mtls") || ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && ((value.level === undefined || (!("level" in value) || ((value.level === "none" || value.level === "tls") || value.level === "mtls"))) && (value.kind === undefined || (!("kind" in value) || ((value.kind === "screen" || value.kind === "rest") || value.kind === "soap"))))))))
return (value: unknown): boolean => check_0(value)
})()

/** The JSON Schema, to explain what is wrong with a value. */
export const PluginOptionsSchema = {
  "type": "object",
  "properties": {
    "default": {
      "anyOf": [
        {
          "enum": [
            "none",
            "tls",
            "mtls"
          ]
        },
        {
          "type": "object",
          "properties": {
            "level": {
              "enum": [
                "none",
                "tls",
                "mtls"
              ]
            },
            "kind": {
              "enum": [
                "screen",
                "rest",
                "soap"
              ]
            }
          },
          "additionalProperties": false
        }
      ]
    },
    "flows": {
      "type": "object",
      "additionalProperties": {
        "anyOf": [
          {
            "enum": [
              "none",
              "tls",
              "mtls"
            ]
          },
          {
            "type": "object",
            "properties": {
              "level": {
                "enum": [
                  "none",
                  "tls",
                  "mtls"
                ]
              },
              "kind": {
                "enum": [
                  "screen",
                  "rest",
                  "soap"
                ]
              }
            },
            "additionalProperties": false
          }
        ]
      }
    },
    "minimum": {
      "enum": [
        "none",
        "tls",
        "mtls"
      ]
    },
    "profile": {
      "enum": [
        "outsystems"
      ]
    },
    "redirect": {
      "type": "object",
      "properties": {
        "statusCode": {
          "enum": [
            301,
            302,
            307,
            308
          ]
        },
        "httpsPort": {
          "type": "integer",
          "minimum": 1,
          "maximum": 65535
        },
        "hosts": {
          "type": "array",
          "items": {
            "type": "string"
          },
          "minItems": 1
        }
      },
      "additionalProperties": false
    },
    "proxy": {
      "type": "object",
      "required": [
        "trust"
      ],
      "properties": {
        "trust": {
          "anyOf": [
            {
              "type": "string"
            },
            {
              "type": "array",
              "items": {
                "type": "string"
              }
            }
          ]
        },
        "protocol": {
          "enum": [
            "x-forwarded-proto",
            "forwarded"
          ]
        },
        "host": {
          "enum": [
            "host",
            "x-forwarded-host"
          ]
        },
        "certificate": {
          "anyOf": [
            {
              "enum": [
                "nginx",
                "ingress-nginx",
                "haproxy",
                "apache",
                "rfc9440",
                "aws-alb",
                "gcp",
                "caddy",
                "envoy",
                "traefik",
                "cloudflare",
                "azure",
                "aws-alb-passthrough"
              ]
            },
            {
              "type": "object",
              "required": [
                "header",
                "encoding",
                "verified"
              ],
              "properties": {
                "header": {
                  "type": "string"
                },
                "encoding": {
                  "enum": [
                    "rfc9440",
                    "url-pem",
                    "url-pem-aws",
                    "pem-spaces",
                    "base64-der",
                    "xfcc"
                  ]
                },
                "verified": {
                  "anyOf": [
                    {
                      "enum": [
                        "presence",
                        "here"
                      ]
                    },
                    {
                      "type": "object",
                      "required": [
                        "header",
                        "value"
                      ],
                      "properties": {
                        "header": {
                          "type": "string"
                        },
                        "value": {
                          "type": "string"
                        }
                      },
                      "additionalProperties": false
                    }
                  ]
                },
                "hops": {
                  "type": "integer",
                  "minimum": 1,
                  "maximum": 10
                }
              },
              "additionalProperties": false
            }
          ]
        },
        "ca": {
          "anyOf": [
            {
              "anyOf": [
                {
                  "type": "string"
                },
                {
                  "type": "object",
                  "properties": {},
                  "title": "a Buffer"
                }
              ]
            },
            {
              "type": "array",
              "items": {
                "anyOf": [
                  {
                    "type": "string"
                  },
                  {
                    "type": "object",
                    "properties": {},
                    "title": "a Buffer"
                  }
                ]
              },
              "minItems": 1
            }
          ]
        },
        "crl": {
          "anyOf": [
            {
              "anyOf": [
                {
                  "type": "string"
                },
                {
                  "type": "object",
                  "properties": {},
                  "title": "a Buffer"
                }
              ]
            },
            {
              "type": "array",
              "items": {
                "anyOf": [
                  {
                    "type": "string"
                  },
                  {
                    "type": "object",
                    "properties": {},
                    "title": "a Buffer"
                  }
                ]
              },
              "minItems": 1
            }
          ]
        },
        "ocsp": {
          "anyOf": [
            {
              "type": "boolean"
            },
            {
              "type": "object",
              "required": [
                "url"
              ],
              "properties": {
                "url": {
                  "type": "string"
                }
              },
              "additionalProperties": false
            }
          ]
        },
        "unknown": {
          "enum": [
            "refuse",
            "allow"
          ]
        },
        "dir": {
          "type": "string"
        },
        "allow": {
          "type": "array",
          "items": {
            "type": "string"
          }
        },
        "probe": {
          "type": "string"
        }
      },
      "additionalProperties": false
    },
    "tls": {
      "type": "object",
      "properties": {}
    },
    "helmet": {
      "type": "object",
      "properties": {}
    },
    "unsatisfiable": {
      "enum": [
        "error",
        "warn"
      ]
    },
    "application": {
      "type": "string"
    },
    "policy": {
      "anyOf": [
        {
          "type": "string"
        },
        {
          "type": "object",
          "properties": {},
          "title": "a policy, the path of a file, or a source { load, watch? }"
        }
      ]
    },
    "mode": {
      "enum": [
        "enforce",
        "report"
      ]
    },
    "secureCookies": {
      "type": "boolean"
    },
    "onViolation": {
      "title": "a function"
    }
  },
  "additionalProperties": false
}

/** Whether a value fits it. */
export const isPluginOptions = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const External = [/(^default$|^flows$|^minimum$|^profile$|^redirect$|^proxy$|^tls$|^helmet$|^unsatisfiable$|^application$|^policy$|^mode$|^secureCookies$|^onViolation$)/u, /(^level$|^kind$)/u, /(?!)/u, /(^level$|^kind$)/u, /(^statusCode$|^httpsPort$|^hosts$)/u, /(^trust$|^protocol$|^host$|^certificate$|^ca$|^crl$|^ocsp$|^unknown$|^dir$|^allow$|^probe$)/u, /(^header$|^encoding$|^verified$|^hops$)/u]; const check_0 = ((value) => ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && ((((((((((((((value.default === undefined || (!("default" in value) || (((value.default === "none" || value.default === "tls") || value.default === "mtls") || ((typeof value.default === "object" && value.default !== null && !(Array.isArray(value.default))) && (Object.getOwnPropertyNames(value.default).every((unique_2, unique_3) => ((External[1].test(unique_2) || false))) && ((value.default.level === undefined || (!("level" in value.default) || ((value.default.level === "none" || value.default.level === "tls") || value.default.level === "mtls"))) && (value.default.kind === undefined || (!("kind" in value.default) || ((value.default.kind === "screen" || value.default.kind === "rest") || value.default.kind === "soap"))))))))) && (value.flows === undefined || (!("flows" in value) || ((typeof value.flows === "object" && value.flows !== null && !(Array.isArray(value.flows))) && Object.getOwnPropertyNames(value.flows).every((unique_4, unique_5) => ((External[2].test(unique_4) || (((value.flows[unique_4] === "none" || value.flows[unique_4] === "tls") || value.flows[unique_4] === "mtls") || ((typeof value.flows[unique_4] === "object" && value.flows[unique_4] !== null && !(Array.isArray(value.flows[unique_4]))) && (Object.getOwnPropertyNames(value.flows[unique_4]).every((unique_6, unique_7) => ((External[3].test(unique_6) || false))) && ((value.flows[unique_4].level === undefined || (!("level" in value.flows[unique_4]) || ((value.flows[unique_4].level === "none" || value.flows[unique_4].level === "tls") || value.flows[unique_4].level === "mtls"))) && (value.flows[unique_4].kind === undefined || (!("kind" in value.flows[unique_4]) || ((value.flows[unique_4].kind === "screen" || value.flows[unique_4].kind === "rest") || value.flows[unique_4].kind === "soap")))))))))))))) && (value.minimum === undefined || (!("minimum" in value) || ((value.minimum === "none" || value.minimum === "tls") || value.minimum === "mtls")))) && (value.profile === undefined || (!("profile" in value) || value.profile === "outsystems"))) && (value.redirect === undefined || (!("redirect" in value) || ((typeof value.redirect === "object" && value.redirect !== null && !(Array.isArray(value.redirect))) && (Object.getOwnPropertyNames(value.redirect).every((unique_8, unique_9) => ((External[4].test(unique_8) || false))) && (((value.redirect.statusCode === undefined || (!("statusCode" in value.redirect) || (((value.redirect.statusCode === 301 || value.redirect.statusCode === 302) || value.redirect.statusCode === 307) || value.redirect.statusCode === 308))) && (value.redirect.httpsPort === undefined || (!("httpsPort" in value.redirect) || (Number.isInteger(value.redirect.httpsPort) && (!((Number.isFinite(value.redirect.httpsPort) || typeof value.redirect.httpsPort === "bigint")) || (value.redirect.httpsPort >= 1 && value.redirect.httpsPort <= 65535)))))) && (value.redirect.hosts === undefined || (!("hosts" in value.redirect) || (Array.isArray(value.redirect.hosts) && (value.redirect.hosts.every((unique_10, index) => (typeof unique_10 === "string")) && value.redirect.hosts.length >= 1)))))))))) && (value.proxy === undefined || (!("proxy" in value) || ((typeof value.proxy === "object" && value.proxy !== null && !(Array.isArray(value.proxy))) && (("trust" in value.proxy && Object.getOwnPropertyNames(value.proxy).every((unique_11, unique_12) => ((External[5].test(unique_11) || false)))) && (((((((((((typeof value.proxy.trust === "string" || (Array.isArray(value.proxy.trust) && value.proxy.trust.every((unique_13, index) => (typeof unique_13 === "string")))) && (value.proxy.protocol === undefined || (!("protocol" in value.proxy) || (value.proxy.protocol === "x-forwarded-proto" || value.proxy.protocol === "forwarded")))) && (value.proxy.host === undefined || (!("host" in value.proxy) || (value.proxy.host === "host" || value.proxy.host === "x-forwarded-host")))) && (value.proxy.certificate === undefined || (!("certificate" in value.proxy) || (((((((((((((value.proxy.certificate === "nginx" || value.proxy.certificate === "ingress-nginx") || value.proxy.certificate === "haproxy") || value.proxy.certificate === "apache") || value.proxy.certificate === "rfc9440") || value.proxy.certificate === "aws-alb") || value.proxy.certificate === "gcp") || value.proxy.certificate === "caddy") || value.proxy.certificate === "envoy") || value.proxy.certificate === "traefik") || value.proxy.certificate === "cloudflare") || value.proxy.certificate === "azure") || value.proxy.certificate === "aws-alb-passthrough") || ((typeof value.proxy.certificate === "object" && value.proxy.certificate !== null && !(Array.isArray(value.proxy.certificate))) && (((("header" in value.proxy.certificate && "encoding" in value.proxy.certificate) && "verified" in value.proxy.certificate) && Object.getOwnPropertyNames(value.proxy.certificate).every((unique_14, unique_15) => ((External[6].test(unique_14) || false)))) && (((typeof value.proxy.certificate.header === "string" && (((((value.proxy.certificate.encoding === "rfc9440" || value.proxy.certificate.encoding === "url-pem") || value.proxy.certificate.encoding === "url-pem-aws") || value.proxy.certificate.encoding === "pem-spaces") || value.proxy.certificate.encoding === "base64-der") || value.proxy.certificate.encoding === "xfcc")) && ((value.proxy.certificate.verified === "presence" || value.proxy.certificate.verified === "here") || ((typeof value.proxy.certificate.verified === "object" && value.proxy.certificate.verified !== null && !(Array.isArray(value.proxy.certificate.verified))) && ((("header" in value.proxy.certificate.verified && "value" in value.proxy.certificate.verified) && Object.getOwnPropertyNames(value.proxy.certificate.verified).length === 2) && (typeof value.proxy.certificate.verified.header === "string" && typeof value.proxy.certificate.verified.value === "string"))))) && (value.proxy.certificate.hops === undefined || (!("hops" in value.proxy.certificate) || (Number.isInteger(value.proxy.certificate.hops) && (!((Number.isFinite(value.proxy.certificate.hops) || typeof value.proxy.certificate.hops === "bigint")) || (value.proxy.certificate.hops >= 1 && value.proxy.certificate.hops <= 10)))))))))))) && (value.proxy.ca === undefined || (!("ca" in value.proxy) || ((typeof value.proxy.ca === "string" || ((typeof value.proxy.ca === "object" && value.proxy.ca !== null && !(Array.isArray(value.proxy.ca))) && true)) || (Array.isArray(value.proxy.ca) && (value.proxy.ca.every((unique_16, index) => ((typeof unique_16 === "string" || ((typeof unique_16 === "object" && unique_16 !== null && !(Array.isArray(unique_16))) && true)))) && value.proxy.ca.length >= 1)))))) && (value.proxy.crl === undefined || (!("crl" in value.proxy) || ((typeof value.proxy.crl === "string" || ((typeof value.proxy.crl === "object" && value.proxy.crl !== null && !(Array.isArray(value.proxy.crl))) && true)) || (Array.isArray(value.proxy.crl) && (value.proxy.crl.every((unique_17, index) => ((typeof unique_17 === "string" || ((typeof unique_17 === "object" && unique_17 !== null && !(Array.isArray(unique_17))) && true)))) && value.proxy.crl.length >= 1)))))) && (value.proxy.ocsp === undefined || (!("ocsp" in value.proxy) || (typeof value.proxy.ocsp === "boolean" || ((typeof value.proxy.ocsp === "object" && value.proxy.ocsp !== null && !(Array.isArray(value.proxy.ocsp))) && (("url" in value.proxy.ocsp && Object.getOwnPropertyNames(value.proxy.ocsp).length === 1) && typeof value.proxy.ocsp.url === "string")))))) && (value.proxy.unknown === undefined || (!("unknown" in value.proxy) || (value.proxy.unknown === "refuse" || value.proxy.unknown === "allow")))) && (value.proxy.dir === undefined || (!("dir" in value.proxy) || typeof value.proxy.dir === "string"))) && (value.proxy.allow === undefined || (!("allow" in value.proxy) || (Array.isArray(value.proxy.allow) && value.proxy.allow.every((unique_18, index) => (typeof unique_18 === "string")))))) && (value.proxy.probe === undefined || (!("probe" in value.proxy) || typeof value.proxy.probe === "string")))))))) && (value.tls === undefined || (!("tls" in value) || ((typeof value.tls === "object" && value.tls !== null && !(Array.isArray(value.tls))) && true)))) && (value.helmet === undefined || (!("helmet" in value) || ((typeof value.helmet === "object" && value.helmet !== null && !(Array.isArray(value.helmet))) && true)))) && (value.unsatisfiable === undefined || (!("unsatisfiable" in value) || (value.unsatisfiable === "error" || value.unsatisfiable === "warn")))) && (value.application === undefined || (!("application" in value) || typeof value.application === "string"))) && (value.policy === undefined || (!("policy" in value) || (typeof value.policy === "string" || ((typeof value.policy === "object" && value.policy !== null && !(Array.isArray(value.policy))) && true))))) && (value.mode === undefined || (!("mode" in value) || (value.mode === "enforce" || value.mode === "report")))) && (value.secureCookies === undefined || (!("secureCookies" in value) || typeof value.secureCookies === "boolean"))) && (value.onViolation === undefined || (!("onViolation" in value) || true))))))
return (value: unknown): boolean => check_0(value)
})()
