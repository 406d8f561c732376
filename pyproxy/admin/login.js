"use strict";
const form = document.getElementById("form");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = document.getElementById("said");
  try {
    const response = await fetch("api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: document.getElementById("token").value }),
    });
    if (response.ok) location.reload();
    else said.textContent = (await response.json()).detail;
  } catch (error) {
    said.textContent = `The proxy does not answer (${error.message}).`;
  }
});
