// What .NET has and Mono does not, for the program ChatToken.cs of the documentation: JsonSerializer.Serialize and RSA.ImportFromPem.
// The program itself is compiled as it is.

namespace System.Text.Json
{
    public static class JsonSerializer
    {
        public static string Serialize(object value)
        {
            return new System.Web.Script.Serialization.JavaScriptSerializer().Serialize(value);
        }
    }
}

namespace System.Security.Cryptography
{
    public static class PemKeys
    {
        public static void ImportFromPem(this RSA rsa, string pem)
        {
            string text = System.Text.RegularExpressions.Regex.Replace(pem, @"-----[^-]+-----|\s", "");
            var info = new Mono.Security.Cryptography.PKCS8.PrivateKeyInfo(Convert.FromBase64String(text));
            rsa.ImportParameters(Mono.Security.Cryptography.PKCS8.PrivateKeyInfo.DecodeRSA(info.PrivateKey).ExportParameters(true));
        }
    }
}
