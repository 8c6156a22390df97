<?php
// Functions that WordPress defines only if nobody else has: provision.php loads these before it.

declare(strict_types=1);

/** No sample post, page or widget: the kit brings the content. */
function wp_install_defaults(int $user): void
{
}

/** The control plane writes to the administrators. */
function wp_new_blog_notification(string $title, string $url, int $user, string $password): void
{
}

/** Nobody knows this password, and no password matches this hash: the first one is chosen through the link. */
function wp_hash_password(string $password): string
{
    return '!' . bin2hex(random_bytes(24));
}
