// Made from lib/options/schema.ts by `npm run schemas`. Do not edit.
// @ts-nocheck: code without types, as the compiler of TypeBox writes it

/** The JSON Schema, to explain what is wrong with a value. */
export const PolicySchema = {
  "type": "object",
  "properties": {
    "$schema": {
      "type": "string",
      "description": "The address of this schema, for editors."
    },
    "environment": {
      "type": "object",
      "properties": {
        "hsts": {
          "type": "object",
          "required": [
            "maxAge"
          ],
          "properties": {
            "maxAge": {
              "type": "integer",
              "minimum": 0,
              "maximum": 9007199254740991,
              "description": "Seconds that browsers remember to use HTTPS only. Above 0 it also forces HTTPS for screens; 0 takes it back."
            },
            "includeSubDomains": {
              "type": "boolean",
              "description": "Every host below this one is meant, too."
            },
            "preload": {
              "type": "boolean",
              "description": "Asks for a place on the list that browsers come with. Hard to take back."
            }
          },
          "additionalProperties": false,
          "description": "HTTP Strict Transport Security (RFC 6797)."
        },
        "forceHttpsForScreens": {
          "type": "boolean",
          "description": "Screens are reached over HTTPS only: browsers are sent there, other requests are refused."
        },
        "forceHttpsForIntegrations": {
          "type": "boolean",
          "description": "Exposed REST and SOAP services are reached over HTTPS only: requests over HTTP are refused."
        },
        "mode": {
          "enum": [
            "enforce",
            "report"
          ],
          "description": "\"report\": what is forced here is counted and logged only, and refuses nothing. Default \"enforce\"."
        }
      },
      "additionalProperties": false,
      "description": "Holds for every application of this environment."
    },
    "applications": {
      "type": "object",
      "additionalProperties": {
        "type": "object",
        "properties": {
          "forceHttpsForScreens": {
            "type": "boolean",
            "description": "Screens are reached over HTTPS only: browsers are sent there, other requests are refused."
          },
          "forceHttpsForIntegrations": {
            "type": "boolean",
            "description": "Exposed REST and SOAP services are reached over HTTPS only: requests over HTTP are refused."
          },
          "mode": {
            "enum": [
              "enforce",
              "report"
            ],
            "description": "\"report\": what is forced here is counted and logged only, and refuses nothing. Default \"enforce\"."
          }
        },
        "additionalProperties": false
      },
      "description": "By the name that an application goes by."
    }
  },
  "additionalProperties": false
}

/** Whether a value fits it. */
export const isPolicy = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const External = [/(^\$schema$|^environment$|^applications$)/u, /(^hsts$|^forceHttpsForScreens$|^forceHttpsForIntegrations$|^mode$)/u, /(^maxAge$|^includeSubDomains$|^preload$)/u, /(?!)/u, /(^forceHttpsForScreens$|^forceHttpsForIntegrations$|^mode$)/u]; const check_0 = ((value) => ((typeof value === "object" && value !== null && !(Array.isArray(value))) && (Object.getOwnPropertyNames(value).every((unique_0, unique_1) => ((External[0].test(unique_0) || false))) && (((value.$schema === undefined || (!("$schema" in value) || typeof value.$schema === "string")) && (value.environment === undefined || (!("environment" in value) || ((typeof value.environment === "object" && value.environment !== null && !(Array.isArray(value.environment))) && (Object.getOwnPropertyNames(value.environment).every((unique_2, unique_3) => ((External[1].test(unique_2) || false))) && ((((value.environment.hsts === undefined || (!("hsts" in value.environment) || ((typeof value.environment.hsts === "object" && value.environment.hsts !== null && !(Array.isArray(value.environment.hsts))) && (("maxAge" in value.environment.hsts && Object.getOwnPropertyNames(value.environment.hsts).every((unique_4, unique_5) => ((External[2].test(unique_4) || false)))) && (((Number.isInteger(value.environment.hsts.maxAge) && (!((Number.isFinite(value.environment.hsts.maxAge) || typeof value.environment.hsts.maxAge === "bigint")) || (value.environment.hsts.maxAge >= 0 && value.environment.hsts.maxAge <= 9007199254740991))) && (value.environment.hsts.includeSubDomains === undefined || (!("includeSubDomains" in value.environment.hsts) || typeof value.environment.hsts.includeSubDomains === "boolean"))) && (value.environment.hsts.preload === undefined || (!("preload" in value.environment.hsts) || typeof value.environment.hsts.preload === "boolean"))))))) && (value.environment.forceHttpsForScreens === undefined || (!("forceHttpsForScreens" in value.environment) || typeof value.environment.forceHttpsForScreens === "boolean"))) && (value.environment.forceHttpsForIntegrations === undefined || (!("forceHttpsForIntegrations" in value.environment) || typeof value.environment.forceHttpsForIntegrations === "boolean"))) && (value.environment.mode === undefined || (!("mode" in value.environment) || (value.environment.mode === "enforce" || value.environment.mode === "report"))))))))) && (value.applications === undefined || (!("applications" in value) || ((typeof value.applications === "object" && value.applications !== null && !(Array.isArray(value.applications))) && Object.getOwnPropertyNames(value.applications).every((unique_6, unique_7) => ((External[3].test(unique_6) || ((typeof value.applications[unique_6] === "object" && value.applications[unique_6] !== null && !(Array.isArray(value.applications[unique_6]))) && (Object.getOwnPropertyNames(value.applications[unique_6]).every((unique_8, unique_9) => ((External[4].test(unique_8) || false))) && (((value.applications[unique_6].forceHttpsForScreens === undefined || (!("forceHttpsForScreens" in value.applications[unique_6]) || typeof value.applications[unique_6].forceHttpsForScreens === "boolean")) && (value.applications[unique_6].forceHttpsForIntegrations === undefined || (!("forceHttpsForIntegrations" in value.applications[unique_6]) || typeof value.applications[unique_6].forceHttpsForIntegrations === "boolean"))) && (value.applications[unique_6].mode === undefined || (!("mode" in value.applications[unique_6]) || (value.applications[unique_6].mode === "enforce" || value.applications[unique_6].mode === "report"))))))))))))))))
return (value: unknown): boolean => check_0(value)
})()
