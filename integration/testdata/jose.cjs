// Signs and publishes with npm's jose: prints a JWK Set and a token as JSON.
'use strict'
const { pathToFileURL } = require('node:url')

async function main() {
  const jose = await import(pathToFileURL(require.resolve('jose')))
  const { publicKey, privateKey } = await jose.generateKeyPair('RS256')
  const kid = '2026'
  const set = { keys: [{ ...(await jose.exportJWK(publicKey)), kid, use: 'sig', alg: 'RS256' }] }
  const token = await new jose.SignJWT({ identity: 'mark' }).setProtectedHeader({ alg: 'RS256', kid, typ: 'at+jwt' }).setIssuedAt().setExpirationTime('10m').sign(privateKey)
  console.log(JSON.stringify({ set, token }))
}

main()
