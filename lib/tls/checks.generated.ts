// Made from lib/options/schema.ts by `npm run schemas`. Do not edit.
// @ts-nocheck: code without types, as the compiler of TypeBox writes it

/** The JSON Schema, to explain what is wrong with a value. */
export const EnableTlsOptionsSchema = {
  "type": "object",
  "properties": {
    "certificates": {
      "anyOf": [
        {
          "anyOf": [
            {
              "type": "object",
              "required": [
                "cert",
                "key"
              ],
              "properties": {
                "cert": {
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
                "key": {
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
                "passphrase": {
                  "type": "string"
                }
              },
              "additionalProperties": false
            },
            {
              "type": "object",
              "required": [
                "pfx"
              ],
              "properties": {
                "pfx": {
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
                "passphrase": {
                  "type": "string"
                }
              },
              "additionalProperties": false
            }
          ]
        },
        {
          "type": "array",
          "items": {
            "anyOf": [
              {
                "type": "object",
                "required": [
                  "cert",
                  "key"
                ],
                "properties": {
                  "cert": {
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
                  "key": {
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
                  "passphrase": {
                    "type": "string"
                  }
                },
                "additionalProperties": false
              },
              {
                "type": "object",
                "required": [
                  "pfx"
                ],
                "properties": {
                  "pfx": {
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
                  "passphrase": {
                    "type": "string"
                  }
                },
                "additionalProperties": false
              }
            ]
          },
          "minItems": 1
        }
      ]
    },
    "development": {
      "anyOf": [
        {
          "type": "boolean"
        },
        {
          "type": "object",
          "properties": {
            "hosts": {
              "type": "array",
              "items": {
                "type": "string"
              }
            },
            "dir": {
              "type": "string"
            }
          },
          "additionalProperties": false
        }
      ]
    },
    "clientCertificates": {
      "anyOf": [
        {
          "type": "object",
          "required": [
            "ca"
          ],
          "properties": {
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
                  }
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
            "legacy": {
              "type": "boolean"
            }
          },
          "additionalProperties": false
        },
        {
          "type": "object",
          "additionalProperties": {
            "type": "object",
            "required": [
              "ca"
            ],
            "properties": {
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
                    }
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
              "legacy": {
                "type": "boolean"
              }
            },
            "additionalProperties": false
          }
        }
      ]
    },
    "sessions": {
      "type": "object",
      "required": [
        "secret"
      ],
      "properties": {
        "secret": {
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
        }
      },
      "additionalProperties": false
    },
    "https": {
      "type": "object",
      "properties": {}
    }
  },
  "additionalProperties": false
}

/** Whether a value fits it. */
export const isEnableTlsOptions = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const External = [/(^certificates$|^development$|^clientCertificates$|^sessions$|^https$)/u, /(^cert$|^key$|^passphrase$)/u, /(^pfx$|^passphrase$)/u, /(^cert$|^key$|^passphrase$)/u, /(^pfx$|^passphrase$)/u, /(^hosts$|^dir$)/u, /(^ca$|^crl$|^ocsp$|^unknown$|^dir$|^allow$|^legacy$)/u, /(?!)/u, /(^ca$|^crl$|^ocsp$|^unknown$|^dir$|^allow$|^legacy$)/u]; const check_0 = ((value) => ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && (((((value.certificates === undefined || (!("certificates" in value) || ((((typeof value.certificates === "object" && value.certificates !== null && !(Array.isArray(value.certificates))) && ((("cert" in value.certificates && "key" in value.certificates) && Object.getOwnPropertyNames(value.certificates).every((unique_2, unique_3) => ((External[1].test(unique_2) || false)))) && (((typeof value.certificates.cert === "string" || ((typeof value.certificates.cert === "object" && value.certificates.cert !== null && !(Array.isArray(value.certificates.cert))) && true)) && (typeof value.certificates.key === "string" || ((typeof value.certificates.key === "object" && value.certificates.key !== null && !(Array.isArray(value.certificates.key))) && true))) && (value.certificates.passphrase === undefined || (!("passphrase" in value.certificates) || typeof value.certificates.passphrase === "string"))))) || ((typeof value.certificates === "object" && value.certificates !== null && !(Array.isArray(value.certificates))) && (("pfx" in value.certificates && Object.getOwnPropertyNames(value.certificates).every((unique_4, unique_5) => ((External[2].test(unique_4) || false)))) && ((typeof value.certificates.pfx === "string" || ((typeof value.certificates.pfx === "object" && value.certificates.pfx !== null && !(Array.isArray(value.certificates.pfx))) && true)) && (value.certificates.passphrase === undefined || (!("passphrase" in value.certificates) || typeof value.certificates.passphrase === "string")))))) || (Array.isArray(value.certificates) && (value.certificates.every((unique_6, index) => ((((typeof unique_6 === "object" && unique_6 !== null && !(Array.isArray(unique_6))) && ((("cert" in unique_6 && "key" in unique_6) && Object.getOwnPropertyNames(unique_6).every((unique_7, unique_8) => ((External[3].test(unique_7) || false)))) && (((typeof unique_6.cert === "string" || ((typeof unique_6.cert === "object" && unique_6.cert !== null && !(Array.isArray(unique_6.cert))) && true)) && (typeof unique_6.key === "string" || ((typeof unique_6.key === "object" && unique_6.key !== null && !(Array.isArray(unique_6.key))) && true))) && (unique_6.passphrase === undefined || (!("passphrase" in unique_6) || typeof unique_6.passphrase === "string"))))) || ((typeof unique_6 === "object" && unique_6 !== null && !(Array.isArray(unique_6))) && (("pfx" in unique_6 && Object.getOwnPropertyNames(unique_6).every((unique_9, unique_10) => ((External[4].test(unique_9) || false)))) && ((typeof unique_6.pfx === "string" || ((typeof unique_6.pfx === "object" && unique_6.pfx !== null && !(Array.isArray(unique_6.pfx))) && true)) && (unique_6.passphrase === undefined || (!("passphrase" in unique_6) || typeof unique_6.passphrase === "string")))))))) && value.certificates.length >= 1))))) && (value.development === undefined || (!("development" in value) || (typeof value.development === "boolean" || ((typeof value.development === "object" && value.development !== null && !(Array.isArray(value.development))) && (Object.getOwnPropertyNames(value.development).every((unique_11, unique_12) => ((External[5].test(unique_11) || false))) && ((value.development.hosts === undefined || (!("hosts" in value.development) || (Array.isArray(value.development.hosts) && value.development.hosts.every((unique_13, index) => (typeof unique_13 === "string"))))) && (value.development.dir === undefined || (!("dir" in value.development) || typeof value.development.dir === "string"))))))))) && (value.clientCertificates === undefined || (!("clientCertificates" in value) || (((typeof value.clientCertificates === "object" && value.clientCertificates !== null && !(Array.isArray(value.clientCertificates))) && (("ca" in value.clientCertificates && Object.getOwnPropertyNames(value.clientCertificates).every((unique_14, unique_15) => ((External[6].test(unique_14) || false)))) && ((((((((typeof value.clientCertificates.ca === "string" || ((typeof value.clientCertificates.ca === "object" && value.clientCertificates.ca !== null && !(Array.isArray(value.clientCertificates.ca))) && true)) || (Array.isArray(value.clientCertificates.ca) && (value.clientCertificates.ca.every((unique_16, index) => ((typeof unique_16 === "string" || ((typeof unique_16 === "object" && unique_16 !== null && !(Array.isArray(unique_16))) && true)))) && value.clientCertificates.ca.length >= 1))) && (value.clientCertificates.crl === undefined || (!("crl" in value.clientCertificates) || ((typeof value.clientCertificates.crl === "string" || ((typeof value.clientCertificates.crl === "object" && value.clientCertificates.crl !== null && !(Array.isArray(value.clientCertificates.crl))) && true)) || (Array.isArray(value.clientCertificates.crl) && value.clientCertificates.crl.every((unique_17, index) => ((typeof unique_17 === "string" || ((typeof unique_17 === "object" && unique_17 !== null && !(Array.isArray(unique_17))) && true))))))))) && (value.clientCertificates.ocsp === undefined || (!("ocsp" in value.clientCertificates) || (typeof value.clientCertificates.ocsp === "boolean" || ((typeof value.clientCertificates.ocsp === "object" && value.clientCertificates.ocsp !== null && !(Array.isArray(value.clientCertificates.ocsp))) && (("url" in value.clientCertificates.ocsp && Object.getOwnPropertyNames(value.clientCertificates.ocsp).length === 1) && typeof value.clientCertificates.ocsp.url === "string")))))) && (value.clientCertificates.unknown === undefined || (!("unknown" in value.clientCertificates) || (value.clientCertificates.unknown === "refuse" || value.clientCertificates.unknown === "allow")))) && (value.clientCertificates.dir === undefined || (!("dir" in value.clientCertificates) || typeof value.clientCertificates.dir === "string"))) && (value.clientCertificates.allow === undefined || (!("allow" in value.clientCertificates) || (Array.isArray(value.clientCertificates.allow) && value.clientCertificates.allow.every((unique_18, index) => (typeof unique_18 === "string")))))) && (value.clientCertificates.legacy === undefined || (!("legacy" in value.clientCertificates) || typeof value.clientCertificates.legacy === "boolean"))))) || ((typeof value.clientCertificates === "object" && value.clientCertificates !== null && !(Array.isArray(value.clientCertificates))) && Object.getOwnPropertyNames(value.clientCertificates).every((unique_19, unique_20) => ((External[7].test(unique_19) || ((typeof value.clientCertificates[unique_19] === "object" && value.clientCertificates[unique_19] !== null && !(Array.isArray(value.clientCertificates[unique_19]))) && (("ca" in value.clientCertificates[unique_19] && Object.getOwnPropertyNames(value.clientCertificates[unique_19]).every((unique_21, unique_22) => ((External[8].test(unique_21) || false)))) && ((((((((typeof value.clientCertificates[unique_19].ca === "string" || ((typeof value.clientCertificates[unique_19].ca === "object" && value.clientCertificates[unique_19].ca !== null && !(Array.isArray(value.clientCertificates[unique_19].ca))) && true)) || (Array.isArray(value.clientCertificates[unique_19].ca) && (value.clientCertificates[unique_19].ca.every((unique_23, index) => ((typeof unique_23 === "string" || ((typeof unique_23 === "object" && unique_23 !== null && !(Array.isArray(unique_23))) && true)))) && value.clientCertificates[unique_19].ca.length >= 1))) && (value.clientCertificates[unique_19].crl === undefined || (!("crl" in value.clientCertificates[unique_19]) || ((typeof value.clientCertificates[unique_19].crl === "string" || ((typeof value.clientCertificates[unique_19].crl === "object" && value.clientCertificates[unique_19].crl !== null && !(Array.isArray(value.clientCertificates[unique_19].crl))) && true)) || (Array.isArray(value.clientCertificates[unique_19].crl) && value.clientCertificates[unique_19].crl.every((unique_24, index) => ((typeof unique_24 === "string" || ((typeof unique_24 === "object" && unique_24 !== null && !(Array.isArray(unique_24))) && true))))))))) && (value.clientCertificates[unique_19].ocsp === undefined || (!("ocsp" in value.clientCertificates[unique_19]) || (typeof value.clientCertificates[unique_19].ocsp === "boolean" || ((typeof value.clientCertificates[unique_19].ocsp === "object" && value.clientCertificates[unique_19].ocsp !== null && !(Array.isArray(value.clientCertificates[unique_19].ocsp))) && (("url" in value.clientCertificates[unique_19].ocsp && Object.getOwnPropertyNames(value.clientCertificates[unique_19].ocsp).length === 1) && typeof value.clientCertificates[unique_19].ocsp.url === "string")))))) && (value.clientCertificates[unique_19].unknown === undefined || (!("unknown" in value.clientCertificates[unique_19]) || (value.clientCertificates[unique_19].unknown === "refuse" || value.clientCertificates[unique_19].unknown === "allow")))) && (value.clientCertificates[unique_19].dir === undefined || (!("dir" in value.clientCertificates[unique_19]) || typeof value.clientCertificates[unique_19].dir === "string"))) && (value.clientCertificates[unique_19].allow === undefined || (!("allow" in value.clientCertificates[unique_19]) || (Array.isArray(value.clientCertificates[unique_19].allow) && value.clientCertificates[unique_19].allow.every((unique_25, index) => (typeof unique_25 === "string")))))) && (value.clientCertificates[unique_19].legacy === undefined || (!("legacy" in value.clientCertificates[unique_19]) || typeof value.clientCertificates[unique_19].legacy === "boolean"))))))))))))) && (value.sessions === undefined || (!("sessions" in value) || ((typeof value.sessions === "object" && value.sessions !== null && !(Array.isArray(value.sessions))) && (("secret" in value.sessions && Object.getOwnPropertyNames(value.sessions).length === 1) && (typeof value.sessions.secret === "string" || ((typeof value.sessions.secret === "object" && value.sessions.secret !== null && !(Array.isArray(value.sessions.secret))) && true))))))) && (value.https === undefined || (!("https" in value) || ((typeof value.https === "object" && value.https !== null && !(Array.isArray(value.https))) && true)))))))
return (value: unknown): boolean => check_0(value)
})()

/** The JSON Schema, to explain what is wrong with a value. */
export const DevelopmentCertificatesOptionsSchema = {
  "type": "object",
  "properties": {
    "hosts": {
      "type": "array",
      "items": {
        "type": "string"
      }
    },
    "dir": {
      "type": "string"
    }
  },
  "additionalProperties": false
}

/** Whether a value fits it. */
export const isDevelopmentCertificatesOptions = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const External = [/(^hosts$|^dir$)/u]; const check_0 = ((value) => ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && ((value.hosts === undefined || (!("hosts" in value) || (Array.isArray(value.hosts) && value.hosts.every((unique_2, index) => (typeof unique_2 === "string"))))) && (value.dir === undefined || (!("dir" in value) || typeof value.dir === "string"))))))
return (value: unknown): boolean => check_0(value)
})()
