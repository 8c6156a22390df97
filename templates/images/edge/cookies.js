// Cookies of sites, as they pass the edge. One for the domain above would be sent to every other site, and could take the
// place of theirs. nginx's own proxy_cookie_domain passes over an attribute with a tab before its name; browsers do not.
function own(request) {
    const cookies = request.headersOut['Set-Cookie'];
    if (cookies !== undefined) {
        request.headersOut['Set-Cookie'] = cookies.map(withoutDomain);
    }
}

function withoutDomain(cookie) {
    return cookie.split(';').filter((part, place) => place === 0 || !/^\s*domain\s*(=|$)/i.test(part)).join(';');
}

export default { own };
