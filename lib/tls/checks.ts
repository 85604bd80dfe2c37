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
          "properties": {}
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
const External = [/(^certificates$|^development$|^clientCertificates$|^sessions$|^https$)/u, /(^cert$|^key$|^passphrase$)/u, /(^pfx$|^passphrase$)/u, /(^cert$|^key$|^passphrase$)/u, /(^pfx$|^passphrase$)/u, /(^ca$|^crl$|^ocsp$|^unknown$|^dir$|^allow$|^legacy$)/u, /(?!)/u, /(^ca$|^crl$|^ocsp$|^unknown$|^dir$|^allow$|^legacy$)/u]; const check_0 = ((value) => ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && (((((value.certificates === undefined || (!("certificates" in value) || ((((typeof value.certificates === "object" && value.certificates !== null && !(Array.isArray(value.certificates))) && ((("cert" in value.certificates && "key" in value.certificates) && Object.getOwnPropertyNames(value.certificates).every((unique_2, unique_3) => ((External[1].test(unique_2) || false)))) && (((typeof value.certificates.cert === "string" || ((typeof value.certificates.cert === "object" && value.certificates.cert !== null && !(Array.isArray(value.certificates.cert))) && true)) && (typeof value.certificates.key === "string" || ((typeof value.certificates.key === "object" && value.certificates.key !== null && !(Array.isArray(value.certificates.key))) && true))) && (value.certificates.passphrase === undefined || (!("passphrase" in value.certificates) || typeof value.certificates.passphrase === "string"))))) || ((typeof value.certificates === "object" && value.certificates !== null && !(Array.isArray(value.certificates))) && (("pfx" in value.certificates && Object.getOwnPropertyNames(value.certificates).every((unique_4, unique_5) => ((External[2].test(unique_4) || false)))) && ((typeof value.certificates.pfx === "string" || ((typeof value.certificates.pfx === "object" && value.certificates.pfx !== null && !(Array.isArray(value.certificates.pfx))) && true)) && (value.certificates.passphrase === undefined || (!("passphrase" in value.certificates) || typeof value.certificates.passphrase === "string")))))) || (Array.isArray(value.certificates) && (value.certificates.every((unique_6, index) => ((((typeof unique_6 === "object" && unique_6 !== null && !(Array.isArray(unique_6))) && ((("cert" in unique_6 && "key" in unique_6) && Object.getOwnPropertyNames(unique_6).every((unique_7, unique_8) => ((External[3].test(unique_7) || false)))) && (((typeof unique_6.cert === "string" || ((typeof unique_6.cert === "object" && unique_6.cert !== null && !(Array.isArray(unique_6.cert))) && true)) && (typeof unique_6.key === "string" || ((typeof unique_6.key === "object" && unique_6.key !== null && !(Array.isArray(unique_6.key))) && true))) && (unique_6.passphrase === undefined || (!("passphrase" in unique_6) || typeof unique_6.passphrase === "string"))))) || ((typeof unique_6 === "object" && unique_6 !== null && !(Array.isArray(unique_6))) && (("pfx" in unique_6 && Object.getOwnPropertyNames(unique_6).every((unique_9, unique_10) => ((External[4].test(unique_9) || false)))) && ((typeof unique_6.pfx === "string" || ((typeof unique_6.pfx === "object" && unique_6.pfx !== null && !(Array.isArray(unique_6.pfx))) && true)) && (unique_6.passphrase === undefined || (!("passphrase" in unique_6) || typeof unique_6.passphrase === "string")))))))) && value.certificates.length >= 1))))) && (value.development === undefined || (!("development" in value) || (typeof value.development === "boolean" || ((typeof value.development === "object" && value.development !== null && !(Array.isArray(value.development))) && true))))) && (value.clientCertificates === undefined || (!("clientCertificates" in value) || (((typeof value.clientCertificates === "object" && value.clientCertificates !== null && !(Array.isArray(value.clientCertificates))) && (("ca" in value.clientCertificates && Object.getOwnPropertyNames(value.clientCertificates).every((unique_11, unique_12) => ((External[5].test(unique_11) || false)))) && ((((((((typeof value.clientCertificates.ca === "string" || ((typeof value.clientCertificates.ca === "object" && value.clientCertificates.ca !== null && !(Array.isArray(value.clientCertificates.ca))) && true)) || (Array.isArray(value.clientCertificates.ca) && (value.clientCertificates.ca.every((unique_13, index) => ((typeof unique_13 === "string" || ((typeof unique_13 === "object" && unique_13 !== null && !(Array.isArray(unique_13))) && true)))) && value.clientCertificates.ca.length >= 1))) && (value.clientCertificates.crl === undefined || (!("crl" in value.clientCertificates) || ((typeof value.clientCertificates.crl === "string" || ((typeof value.clientCertificates.crl === "object" && value.clientCertificates.crl !== null && !(Array.isArray(value.clientCertificates.crl))) && true)) || (Array.isArray(value.clientCertificates.crl) && value.clientCertificates.crl.every((unique_14, index) => ((typeof unique_14 === "string" || ((typeof unique_14 === "object" && unique_14 !== null && !(Array.isArray(unique_14))) && true))))))))) && (value.clientCertificates.ocsp === undefined || (!("ocsp" in value.clientCertificates) || (typeof value.clientCertificates.ocsp === "boolean" || ((typeof value.clientCertificates.ocsp === "object" && value.clientCertificates.ocsp !== null && !(Array.isArray(value.clientCertificates.ocsp))) && (("url" in value.clientCertificates.ocsp && Object.getOwnPropertyNames(value.clientCertificates.ocsp).length === 1) && typeof value.clientCertificates.ocsp.url === "string")))))) && (value.clientCertificates.unknown === undefined || (!("unknown" in value.clientCertificates) || (value.clientCertificates.unknown === "refuse" || value.clientCertificates.unknown === "allow")))) && (value.clientCertificates.dir === undefined || (!("dir" in value.clientCertificates) || typeof value.clientCertificates.dir === "string"))) && (value.clientCertificates.allow === undefined || (!("allow" in value.clientCertificates) || (Array.isArray(value.clientCertificates.allow) && value.clientCertificates.allow.every((unique_15, index) => (typeof unique_15 === "string")))))) && (value.clientCertificates.legacy === undefined || (!("legacy" in value.clientCertificates) || typeof value.clientCertificates.legacy === "boolean"))))) || ((typeof value.clientCertificates === "object" && value.clientCertificates !== null && !(Array.isArray(value.clientCertificates))) && Object.getOwnPropertyNames(value.clientCertificates).every((unique_16, unique_17) => ((External[6].test(unique_16) || ((typeof value.clientCertificates[unique_16] === "object" && value.clientCertificates[unique_16] !== null && !(Array.isArray(value.clientCertificates[unique_16]))) && (("ca" in value.clientCertificates[unique_16] && Object.getOwnPropertyNames(value.clientCertificates[unique_16]).every((unique_18, unique_19) => ((External[7].test(unique_18) || false)))) && ((((((((typeof value.clientCertificates[unique_16].ca === "string" || ((typeof value.clientCertificates[unique_16].ca === "object" && value.clientCertificates[unique_16].ca !== null && !(Array.isArray(value.clientCertificates[unique_16].ca))) && true)) || (Array.isArray(value.clientCertificates[unique_16].ca) && (value.clientCertificates[unique_16].ca.every((unique_20, index) => ((typeof unique_20 === "string" || ((typeof unique_20 === "object" && unique_20 !== null && !(Array.isArray(unique_20))) && true)))) && value.clientCertificates[unique_16].ca.length >= 1))) && (value.clientCertificates[unique_16].crl === undefined || (!("crl" in value.clientCertificates[unique_16]) || ((typeof value.clientCertificates[unique_16].crl === "string" || ((typeof value.clientCertificates[unique_16].crl === "object" && value.clientCertificates[unique_16].crl !== null && !(Array.isArray(value.clientCertificates[unique_16].crl))) && true)) || (Array.isArray(value.clientCertificates[unique_16].crl) && value.clientCertificates[unique_16].crl.every((unique_21, index) => ((typeof unique_21 === "string" || ((typeof unique_21 === "object" && unique_21 !== null && !(Array.isArray(unique_21))) && true))))))))) && (value.clientCertificates[unique_16].ocsp === undefined || (!("ocsp" in value.clientCertificates[unique_16]) || (typeof value.clientCertificates[unique_16].ocsp === "boolean" || ((typeof value.clientCertificates[unique_16].ocsp === "object" && value.clientCertificates[unique_16].ocsp !== null && !(Array.isArray(value.clientCertificates[unique_16].ocsp))) && (("url" in value.clientCertificates[unique_16].ocsp && Object.getOwnPropertyNames(value.clientCertificates[unique_16].ocsp).length === 1) && typeof value.clientCertificates[unique_16].ocsp.url === "string")))))) && (value.clientCertificates[unique_16].unknown === undefined || (!("unknown" in value.clientCertificates[unique_16]) || (value.clientCertificates[unique_16].unknown === "refuse" || value.clientCertificates[unique_16].unknown === "allow")))) && (value.clientCertificates[unique_16].dir === undefined || (!("dir" in value.clientCertificates[unique_16]) || typeof value.clientCertificates[unique_16].dir === "string"))) && (value.clientCertificates[unique_16].allow === undefined || (!("allow" in value.clientCertificates[unique_16]) || (Array.isArray(value.clientCertificates[unique_16].allow) && value.clientCertificates[unique_16].allow.every((unique_22, index) => (typeof unique_22 === "string")))))) && (value.clientCertificates[unique_16].legacy === undefined || (!("legacy" in value.clientCertificates[unique_16]) || typeof value.clientCertificates[unique_16].legacy === "boolean"))))))))))))) && (value.sessions === undefined || (!("sessions" in value) || ((typeof value.sessions === "object" && value.sessions !== null && !(Array.isArray(value.sessions))) && (("secret" in value.sessions && Object.getOwnPropertyNames(value.sessions).length === 1) && (typeof value.sessions.secret === "string" || ((typeof value.sessions.secret === "object" && value.sessions.secret !== null && !(Array.isArray(value.sessions.secret))) && true))))))) && (value.https === undefined || (!("https" in value) || ((typeof value.https === "object" && value.https !== null && !(Array.isArray(value.https))) && true)))))))
return (value: unknown): boolean => check_0(value)
})()
