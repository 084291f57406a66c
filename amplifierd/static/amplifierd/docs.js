// Shows the API's description. The key that somebody enters is kept in the page alone.
SwaggerUIBundle({
  url: document.getElementById("api").dataset.url,
  dom_id: "#api",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "none",
  persistAuthorization: false,
  validatorUrl: null,
});
